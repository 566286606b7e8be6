"""SAEs that are one affine map, an activation function, and another affine map: nearly all SAEs that people publish."""
