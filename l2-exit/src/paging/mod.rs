//! Translation of L2 linear addresses with L2 page tables.
