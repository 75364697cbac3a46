"""What must change, and who keeps it going?"""
