"""From stages of work to the text of LLVM IR."""
