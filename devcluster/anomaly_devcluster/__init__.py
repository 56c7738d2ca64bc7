"""A Kubernetes to try and test on: pods are local processes, no container runtime is needed."""
