"""The DualFormer network: its modules, shapes and token selection."""
