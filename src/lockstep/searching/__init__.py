"""Which documents answer?"""
