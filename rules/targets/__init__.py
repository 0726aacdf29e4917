"""What runtimes and devices can do, as data: kernel tables and device figures."""
