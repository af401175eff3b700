"""Rating: what each event costs at the price of its time, what fees and commitments come to, and what was earned."""
