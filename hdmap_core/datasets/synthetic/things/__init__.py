"""What stands and moves on and beside the streets."""
