"""What Kubernetes' controller manager does, one controller a file."""
