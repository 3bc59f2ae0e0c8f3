"""Several hosts in network namespaces, and some of them die."""
