"""Score points that land in an InfluxDB bucket, without a client: `spec.source` (docs/influx.md)."""
