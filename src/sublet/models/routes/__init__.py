"""Routes: public names that several models of the catalog serve, as the operator changes them at run time."""
