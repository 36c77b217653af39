"""What can be served and where: typed records, read from ``include/catalog``."""
