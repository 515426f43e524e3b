"""What a column's texts mean: ids, numbers, times and conditions, each as SQL over a batch of rows."""
