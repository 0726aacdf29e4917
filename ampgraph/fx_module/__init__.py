"""The torch.fx dialect: traced modules with visible casts, and what trains them."""
