"""Every query of the service, by subject. Functions take a Session inside a unit of work and never commit."""
