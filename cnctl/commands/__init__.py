"""One public function per command; these know conditions, the layers below do not."""
