"""Everything that runs inside a site; never imports the server's code."""
