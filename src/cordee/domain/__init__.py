"""The words: frozen data that every room speaks. Standard library only, no behaviour beyond arithmetic on itself."""
