"""Sheets, plots and pages for people."""
