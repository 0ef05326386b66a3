"""Splitting, gathering and reducing across process groups. Groups are passed in; nothing here is global."""
