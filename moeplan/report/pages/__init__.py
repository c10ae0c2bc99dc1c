"""HTML pages that stand alone: markup that cannot be broken into, charts drawn when the page is written, one shell for all."""
