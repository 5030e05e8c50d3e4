"""Pages in the browser: rating. Needs the extra `app`."""
