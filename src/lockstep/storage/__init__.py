"""Where does everything rest?"""
