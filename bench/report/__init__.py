"""Frame -> REPORT.md, report.html, figures, tables, and parts of a README; without torch."""
