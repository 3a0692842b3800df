//! TDCALLs of L2's (exit reason 77): what is asked, and how the answer goes back.
