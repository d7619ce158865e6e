"""One or more classes of Open Images with their instance masks, as a data set to train on.

addresses (what lies where) -> tables (streamed CSV) -> photos and archives (over transfer) -> join -> fetch.
"""
