"""What runs a network; one file each: module to artifact (in the caller), artifact to engine (in a worker)."""
