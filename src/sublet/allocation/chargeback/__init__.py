"""What internal teams used, and what it is charged: adds up to every accelerator-second and every cent. Pure."""
