"""Two versions of the code -> a verdict: is the new one slower, larger or wrong?"""
