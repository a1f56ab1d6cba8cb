"""What each method of fair training needs of a site, what it shows the coordinator, and what it costs.

A site's security officer reads here what a choice of ``fairness`` asks for before agreeing to it. Each method is
declared in one place, and what refuses a method gives the reason that stands in its declaration.
"""
