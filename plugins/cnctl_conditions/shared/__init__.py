"""What several conditions need: networks, the repository of weights, a drawing, a palette."""
