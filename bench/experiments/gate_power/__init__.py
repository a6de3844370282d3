"""How often does the gate fail unchanged code, and how often does it miss what is slower?"""
