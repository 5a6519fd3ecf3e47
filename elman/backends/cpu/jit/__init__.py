"""From the text of LLVM IR to machine code, in memory and on disk."""
