"""Our database backend for MariaDB and MySQL; see base.py."""
