"""What `export.benchmark` is made of: one worker process for each measurement, rows, tables and plots."""
