"""softmap"""
