"""`cnctl models`: bases, ControlNets and detectors' weights: list, fetch, remove."""
