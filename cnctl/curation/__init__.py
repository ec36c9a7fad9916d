"""From inputs of any kind and size to a training set in shards, each input accounted for."""
