"""Write what the pod saw to InfluxDB 2, off the request path; fields and tags are in docs/influx.md."""
