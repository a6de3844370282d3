"""What one kernel costs over another: declared pairs -> a subject of a report."""
