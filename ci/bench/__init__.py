"""Measures this project beside its peers and the limits of the machine; see ci/bench.sh."""
