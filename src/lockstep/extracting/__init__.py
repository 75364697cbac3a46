"""Which text of a document is embedded?"""
