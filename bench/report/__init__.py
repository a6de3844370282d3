"""Frame -> REPORT.md, report.html, figures, tables, and the generated parts of a README.

Needs no torch.
"""
