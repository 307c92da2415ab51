"""An accuracy ladder: recipes under rules of cost, each trained with several seeds, against published results."""
