"""Frame -> REPORT.md, report.html, figures, and parts of a README; without torch."""
