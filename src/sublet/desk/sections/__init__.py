"""The questions a case may ask, one table of its file each; every section adds its results to the sheet under fixed names."""
