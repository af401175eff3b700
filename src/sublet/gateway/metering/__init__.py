"""What is counted: tokens, the journal of usage, its way to the ledger, and figures."""
