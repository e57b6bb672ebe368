"""How each operator leads indices along; table.py says which rule is whose."""
