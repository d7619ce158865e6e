"""One or more classes of Open Images with their instance masks, as a data set to train on.

addresses (what is where) -> tables (streamed CSV) -> photos and archives (over transfer) -> join -> fetch.
"""
