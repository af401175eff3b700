"""What runs inside a sandbox. These files are bound into it one by one and import nothing of Sublet."""
