from gradcheck_kit.cli import main

main()
