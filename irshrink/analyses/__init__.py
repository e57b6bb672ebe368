"""What can be computed about a graph without changing it: one question a file."""
