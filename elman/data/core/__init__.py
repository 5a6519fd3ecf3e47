"""What all data share: records, arrays on disk, batches, files that are whole or not there."""
