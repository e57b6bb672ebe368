"""What a build says about itself: ``report.json`` is the truth, ``report.html`` and the terminal show it."""
